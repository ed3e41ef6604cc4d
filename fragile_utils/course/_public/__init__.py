"""The tests of the exercises that everybody may see, one file each. `make exercises` writes them: book/exercises."""

__all__: list[str] = []
