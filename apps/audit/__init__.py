"""The audit log: who changed or downloaded what, when and from where. It only ever grows."""
