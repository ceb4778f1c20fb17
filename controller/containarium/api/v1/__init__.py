"""Messages of the wire contract, made by ``make protos`` from schemas/containarium/v1."""
