"""TIFF files that Pillow would read as something else than they hold."""

import re

from PIL import Image, TiffImagePlugin

CUT_TO_8_BITS = (
    "16 bits in each of several channels would be cut to 8; "
    "save it as 16-bit grey or as 8-bit colour"
)
_CONVERT = "convert it to .npy, and name its axes, e.g. --axes"
_SIGNED = 2
_INTEGERS_8_BIT = ("L", "LA", "RGB", "RGBA", "P")


def refuse_misread(image: Image.Image) -> None:
    """Looks at the tags of an open file's page.

    Raises:
      ValueError: samples that would be dropped, cut or misread, or axes that pages do not show.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if image.mode in _INTEGERS_8_BIT and max(bits) > 8:
        raise ValueError(CUT_TO_8_BITS)
    if _SIGNED in tags.get(TiffImagePlugin.SAMPLEFORMAT, ()) and max(bits) == 8:
        raise ValueError(f"signed 8-bit integers in TIFF are not supported; {_CONVERT} THW")
    if samples > 1 and len(image.getbands()) == 1:
        raise ValueError(f"{samples} values a pixel, of which one would be read; {_CONVERT} THWC")
    description = tags.get(TiffImagePlugin.IMAGEDESCRIPTION, "")
    if isinstance(description, str) and description:
        _refuse_axes(description, samples, one_page=getattr(tags, "next", 1) == 0)


def _refuse_axes(description: str, samples: int, one_page: bool) -> None:
    """By what programs write of a file's pages into the description of the first one."""
    sizes: dict[str, int] = {}
    if description.startswith("ImageJ="):
        found = {key: int(n) for key, n in re.findall(r"^(\w+)=(\d{1,9})\s*$", description, re.M)}
        sizes = {"channels": found.get("channels", 1), "slices": found.get("slices", 1)}
        # Of a plain stack, ImageJ calls the only axis slices, whatever it is.
        if sizes["slices"] > 1 and found.get("frames", 1) == 1 and sizes["channels"] == 1:
            sizes["slices"] = 1
        images = found.get("images", 1)
        if one_page and images > 1:
            raise ValueError(_only_first(images))
    elif '"truncated": true' in description and one_page:
        shape = re.search(r'"shape": \[(\d{1,9})', description)
        raise ValueError(_only_first(int(shape[1]) if shape else 0))
    elif pixels := re.search(r"<(?:\w+:)?Pixels\s[^>]*>", description):
        found = {a: int(n) for a, n in re.findall(r"\bSize([CZ])=[\"'](\d{1,9})", pixels[0])}
        # The colours of a pixel are counted too.
        sizes = {"channels": found.get("C", 1) // max(1, samples), "slices": found.get("Z", 1)}
    several = " and ".join(f"{size} {what}" for what, size in sizes.items() if size > 1)
    if several:
        raise ValueError(f"{several}, whose pages are no sequence in time; {_CONVERT} TCHW")


def _only_first(images: int) -> str:
    return (
        f"{images or 'several'} images stored as one page, of which only the first would be read; "
        f"{_CONVERT} THW"
    )
