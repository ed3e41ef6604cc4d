"""The engine below DeepLIFT, LRP and deep Taylor decomposition: a network as steps, and walks through them.

``trace`` writes a network down as steps; ``operations`` gives each step its derivatives; ``rule`` says what a step
hands down; ``walks`` goes through the steps, forwards and backwards; ``propagate`` is what methods call.
"""
