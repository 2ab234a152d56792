"""What one node keeps and decides: config, model, store, node, daemon."""
