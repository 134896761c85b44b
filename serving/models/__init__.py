"""The models that a server has: taken from the registry, kept as the registry says, and let go of.

model       one that is loaded, and answers
loader      goes where the registry goes
versions    what there is of one model, at one moment
quality     which of its variants
memory      what fits
stock       what is loaded, by whom it is held
retries     when what failed is tried again
control     what clients want loaded
terms       what the operator says to all of this
"""
