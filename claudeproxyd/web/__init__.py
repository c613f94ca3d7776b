"""The HTTP server side: site, resource tree, access, and the downlink that writes to a client."""
