"""The command line: parse, call, render. Heavy imports stay inside the functions that need them."""
