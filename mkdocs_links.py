"""Links that lead out of `docs/`: the site takes the files that they name with it.

The pages are read on a code host, too, where a link to a source file is right as it stands. In the
site such a file is found below `source/`; a link to a folder, which a site has no page for, is
plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
ROOT = Path(__file__).parent


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of one page. See MkDocs on hooks."""

    def rewritten(link: re.Match[str]) -> str:
        text, target, _ = link.groups()
        named = posixpath.normpath(posixpath.join("docs", page.file.src_uri, "..", target))
        if named.startswith("docs/"):
            return link.group()
        if not (ROOT / named).is_file():
            return text
        copied = f"source/{named}"
        if not files.get_file_from_path(copied):
            content = (ROOT / named).read_bytes()
            files.append(File.generated(config, copied, content=content))
        return f"[{text}]({posixpath.relpath(copied, posixpath.dirname(page.file.src_uri) or '.')})"

    return LINK.sub(rewritten, markdown)
