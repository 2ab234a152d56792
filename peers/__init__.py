"""How machines speak and agree: errors, units, values, wire, log."""
