"""Networks of gan.models written the usual way in PyTorch, NCHW, to compare with."""
