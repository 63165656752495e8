"""REST: the URL table, one handler for all of it, and the OpenAPI document."""
