"""How chunks and audio get from one process to the next: links over ZeroMQ and the shared-memory ring."""
