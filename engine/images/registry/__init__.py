"""Images from and to registries (OCI distribution-spec). Read `pull.py` first, then `repository.py`, which speaks the protocol.

Everything a registry says is hostile: sizes are bounded, digests verified while bytes arrive, credentials go to the host that
they belong to.
"""
