"""Models of other libraries, whose layers run our blocks, in place; each file says what one host is like."""
