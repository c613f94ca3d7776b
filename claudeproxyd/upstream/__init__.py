"""The HTTP client side: a streaming HTTP/1.1 client, its idle connections, TLS, proxies."""
