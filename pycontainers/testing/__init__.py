"""The conformance kit: what every backend promises, as tests.

`pytest --pyargs pycontainers.testing --pycontainers-backend=NAME` runs it against an installed backend. A test that
needs a capability which the backend doesn't claim is reported as unsupported, and another test holds that the backend
then raises `Unsupported`, naming itself and the capability.
"""

from __future__ import annotations
