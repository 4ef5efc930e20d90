"""Methods that ours is compared with; the core finds them by name (methods) and never imports them.

Not here: any code of its own.
"""
