"""The C parts of the native backend: the cffi extension `_lib`, and the program `pycontainers-launcher`."""
