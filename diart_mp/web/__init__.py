"""The gateway: WebSocket protocol, sessions, limits, page and metrics; and the client of it."""
