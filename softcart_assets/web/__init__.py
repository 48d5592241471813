"""What our own web applications have in common: limits, errors, headers, and the server."""
