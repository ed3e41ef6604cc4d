"""What the rules of relevance propagation compute, a file for each kind of step.

``shares`` has layers with weights: a value's relevance goes to the terms of its sum. ``activations`` has what passes
relevance on as it is. ``pixels`` has the steps that see the image. The rules that choose among them are in
`saliency.lrp`; the equations stand there.
"""
