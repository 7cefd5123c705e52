"""How the model is computed: folded on a processor without torch, or plainly by torch.

`fold` is the arithmetic, `graph` what OpenVINO is told, `cpu` runs it (`runtime` is OpenVINO, kept
quiet); `eager` is torch.
"""
