"""What is said of one of diffusers' pipeline classes that paints as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ForeignInfo:
    """A class that a folder may name.

    Attributes:
        index: The class in `model_index.json`.
        family: Name in Plans.
        name: Label for people.
        txt2img: Which class paints from words; "" where none does.
        img2img: Which class paints from a picture.
        inpaint: Which class repaints under a mask.
        images: Which class paints like pictures (image prompts).
        most_images: Image prompts that it takes at once.
        weighs: Whether an image prompt can count less or more than another.
        blends: Whether words and pictures can be mixed by weight (`AND`).
        words: Whether it reads words at all.
        whole: Whether its img2img reads the picture as words are read, with no strength.
        prior: What the class of a folder must be that is loaded with it.
        enlarges: How many times larger its picture is than the one before, where it only enlarges.
        steps: Of the class.
        guidance: Its guidance scale.
        guidance_argument: Its name in the signature, where it is not `true_cfg_scale` or `guidance_scale`.
        steps_argument: Likewise, where it is not `num_inference_steps`.
        size_px: Side of the square that it was trained on.
        multiple_px: Sides are multiples of this.
    """

    index: str
    family: str
    name: str
    txt2img: str = ""
    img2img: str = ""
    inpaint: str = ""
    images: str = ""
    most_images: int = 0
    weighs: bool = False
    blends: bool = False
    words: bool = True
    whole: bool = False
    prior: str = ""
    enlarges: int = 0
    steps: int = 28
    guidance: float = 4.5
    guidance_argument: str = ""
    steps_argument: str = ""
    size_px: int = 1024
    multiple_px: int = 16

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of Request that it answers."""
        named = {"txt2img": self.txt2img or self.images, "img2img": self.img2img, "inpaint": self.inpaint}
        found = tuple(kind for kind, name in named.items() if name)
        return (*found, "outpaint") if self.inpaint else found

    def class_for(self, kind: str, *, images: bool = False) -> str:
        """Which class answers a kind of Request; "" for none.

        Args:
            kind: txt2img, img2img, inpaint or outpaint.
            images: Whether it has image prompts.
        """
        if images:
            return self.images if kind == "txt2img" else ""
        return {
            "txt2img": self.txt2img,
            "img2img": self.img2img,
            "inpaint": self.inpaint,
            "outpaint": self.inpaint,
        }.get(kind, "")
