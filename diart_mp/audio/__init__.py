"""Where audio comes from: files, microphones, pipes and other threads, as one kind of mono stream.

Runs in the process that owns a stream (capture, or the gateway) and needs neither torch nor pyannote. The libraries
that touch files and devices (soundfile, soxr, sounddevice) are imported by the functions that use them.
"""
