"""A server of objects with ranges, as a bucket is; it counts what is read."""

import hashlib
import http.server
import threading
from contextlib import contextmanager


class Bucket:
    """`objects` by path; `requests`: path, first and last byte of each."""

    def __init__(self):
        self.objects, self.requests, self.broken, self.url = {}, [], 0, ""

    def address(self, path, raw, start=0):
        """The address of `raw`, which lies at `start` of an object."""
        return {
            "url": f"{self.url}{path}?X-Amz-Signature=secret",
            "start": start,
            "length": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }


@contextmanager
def bucket():
    """A bucket while it is served."""
    made = Bucket()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            if made.broken:
                made.broken -= 1
                self.send_error(503)
            elif path == "/moved":
                self.send_response(302)
                self.send_header("Location", f"{made.url}/there")
                self.end_headers()
            elif path not in made.objects:
                self.send_error(403)
            else:
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                made.requests.append((path, first, last))
                body = made.objects[path][first : last + 1]
                self.send_response(206)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
