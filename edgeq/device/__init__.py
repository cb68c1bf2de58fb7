"""Other machines: what they need to run models, and talking to them."""
