"""Networks that ship with bmask, a folder each; README.md says what they are. A package of its own: a logged model
copies the whole of `bmask`, and need not carry them."""
