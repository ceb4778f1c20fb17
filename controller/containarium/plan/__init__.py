"""The decision core: manifests, a look at the host and a time go in; a plan comes out. Nothing else happens here."""
