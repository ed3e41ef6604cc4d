"""The engine below DeepLIFT, LRP and deep Taylor decomposition: a network as steps, and walks through them.

``trace`` writes a network down as ``steps``: ``kinds`` has the table of functions, ``calls`` says what a call of one
comes to, ``recording`` computes it and writes it down.
``operations`` gives each step its derivatives, of the files ``linear``, ``weighted``, ``pooling``, ``elementwise``,
``products``, ``normalising`` and ``general``; ``rule`` says what a step hands down. ``program`` puts the steps in an
order that saves work, ``programs`` keeps it as long as the network is the same. ``walks`` goes through it, forwards and
backwards; ``passes`` makes of that an explanation which can be differentiated; ``propagate`` is what methods call.
"""
