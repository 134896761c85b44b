"""Compression: a model made smaller or faster, under a promise that is measured on the exported file.

chain         what is done to a model, one technique after the other, as a recipe writes it
technique     what every technique is; techniques/ holds them, one file each
channels      which channels belong together, which are needed least, the network without them
weights       kernels, and what they are held to while they are trained on
rounding      rounding to int8 in training, and the layers that do not bear it
legalise      rewrites that change no answer, so that techniques know the layers
check         which technique works on which layer
sensitivity   what each layer bears, measured; a level for each that follows from it
search        what there is to try, the workbench that makes it, the search, the contest, the outcome
evidence      what is measured on an exported file, and put into an artifact
gate          whether the promise is kept: paired tests on the same examples
report        JSON, picture, page and table of what was found
"""
