"""jaxtrack: pure array operators for online-learning trackers; each is written for one example, `vmap` it for many."""
