"""The aggregate: the mean of the maps of several methods."""

from dataclasses import dataclass

from torch import Tensor, nn

from fragile_utils.saliency import Method, normalize


@dataclass(frozen=True)
class Aggregate(Method):
    """The mean of the saliency maps of several methods, each of sum 1.

    Its attributions say nothing about colours: each of the three channels gets a third of the map.

    Parameters
    ----------
    members : sequence of Method
        At least two.

    Raises
    ------
    ValueError
        If they are not that.

    References
    ----------
    Rieger, Hansen, *Aggregating explanation methods for stable and robust explainability*, 2019, arXiv:1903.00519; the
    same authors, *A simple defense against adversarial attacks on heatmap explanations*, 2020, arXiv:2007.06381.
    """

    members: tuple[Method, ...]

    def __post_init__(self) -> None:
        members = self.members if isinstance(self.members, (tuple, list)) else ()
        if len(members) < 2 or not all(isinstance(member, Method) for member in members):
            raise ValueError(f"members: expected at least two saliency methods, got {self.members!r}")
        object.__setattr__(self, "members", tuple(members))

    def guide(self) -> "Aggregate":
        """Return the aggregate of the members' guides."""
        return Aggregate(tuple(member.guide() for member in self.members))

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        maps, logits = self.maps(model, images, targets, create_graph)
        return (sum(maps) / len(maps))[:, None].expand_as(images) / 3, logits

    def maps(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """Return the map (N, H, W) of each member, and the logits (N, classes), unchecked."""
        found = [member.explain(model, images, targets, create_graph) for member in self.members]
        return [normalize(attributions) for attributions, _ in found], found[0][1]
