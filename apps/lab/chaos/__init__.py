"""`make chaos`: everything fails while mail comes in, and every mail must still be announced."""
