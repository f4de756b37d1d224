"""XMP (ISO 16684-1) of a result: that of its photo, and that its colors are inferred.

The digital source type is IPTC's ``algorithmicallyEnhanced``, "algorithmically-altered media": the scene is the
photo's, its colors come from an algorithm. (``compositeWithTrainedAlgorithmicMedia`` is for content that a generative
model adds.) It takes the place of the photo's own, such as ``print``.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.dom import minidom

import jaxcolor

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_MM = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_OWN = "urn:jaxcolor:xmp"
_UNTRUE = {
    "http://ns.adobe.com/tiff/1.0/": {
        "Orientation",
        "ImageWidth",
        "ImageLength",
        "BitsPerSample",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Compression",
    },
    "http://ns.adobe.com/exif/1.0/": {"PixelXDimension", "PixelYDimension", "ColorSpace"},
    "http://ns.adobe.com/photoshop/1.0/": {"ICCProfile", "ColorMode"},
    "http://ns.adobe.com/xap/1.0/": {"Thumbnails"},
    _IPTC: {"DigitalSourceType"},
    _OWN: {"settings"},
}
"""Properties of the photo's pixels, which are not the result's."""
_MOST_BYTES = 1 << 20
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END = '\n<?xpacket end="w"?>'


def annotated(xmp: bytes | None, weights: str, settings: str = "") -> tuple[bytes, bool]:
    """The photo's XMP with a note that its colors are inferred.

    Args:
      xmp: of the photo, if it has any.
      weights: that the colors are from; named in the history.
      settings: kept as the property ``settings`` of our own namespace, if there are any.

    Returns:
      The packet, and whether all of the photo's could be read.
    """
    document = _parsed(xmp) if xmp else None
    whole = document is not None or not xmp
    document = document or minidom.parseString(_EMPTY)
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    for description in _descriptions(rdf):
        _drop_untrue(description)
    _annotate(document, rdf, weights, settings)
    root = document.documentElement
    assert root is not None
    return (_BEGIN + root.toxml() + _END).encode(), whole


def _parsed(xmp: bytes) -> minidom.Document | None:
    """The packet as XML; None if it is none, or one that could define what makes it grow."""
    if len(xmp) > _MOST_BYTES or b"<!" in xmp.replace(b"<!--", b""):
        return None
    try:
        document = minidom.parseString(xmp.strip(b"\0 \t\r\n"))
    except Exception:  # ExpatError, and what encodings raise
        return None
    return document if len(document.getElementsByTagNameNS(_RDF, "RDF")) == 1 else None


def _descriptions(rdf: minidom.Element) -> Iterator[minidom.Element]:
    for child in list(rdf.childNodes):
        if isinstance(child, minidom.Element) and (child.namespaceURI, child.localName) == (_RDF, "Description"):
            yield child


def _drop_untrue(description: minidom.Element) -> None:
    for attribute in list((description.attributes or {}).values()):
        if attribute.localName in _UNTRUE.get(attribute.namespaceURI or "", ()):
            description.removeAttributeNode(attribute)
    for child in list(description.childNodes):
        if isinstance(child, minidom.Element) and child.localName in _UNTRUE.get(child.namespaceURI or "", ()):
            description.removeChild(child)


def _annotate(document: minidom.Document, rdf: minidom.Element, weights: str, settings: str) -> None:
    prefix = rdf.prefix or "rdf"
    note = document.createElementNS(_RDF, f"{prefix}:Description")
    for name, value in (
        (f"xmlns:{prefix}", _RDF),
        ("xmlns:Iptc4xmpExt", _IPTC),
        ("xmlns:xmpMM", _MM),
        ("xmlns:stEvt", _EVENT),
        (f"{prefix}:about", _about(rdf)),
        ("Iptc4xmpExt:DigitalSourceType", SOURCE_TYPE),
        *((("xmlns:jaxcolor", _OWN), ("jaxcolor:settings", settings)) if settings else ()),
    ):
        note.setAttribute(name, value)
    step = document.createElementNS(_RDF, f"{prefix}:li")
    whose = f" by the weights {weights}" if weights else ""
    for name, value in (
        (f"{prefix}:parseType", "Resource"),
        (f"xmlns:{prefix}", _RDF),
        ("xmlns:stEvt", _EVENT),
    ):
        step.setAttribute(name, value)
    for name, text in (
        ("action", "edited"),
        ("softwareAgent", f"jaxcolor {jaxcolor.__version__}"),
        ("parameters", f"colors inferred from the photo's lightness{whose}; those of the scene are not known"),
    ):
        part = document.createElementNS(_EVENT, f"stEvt:{name}")
        part.appendChild(document.createTextNode(text))
        step.appendChild(part)
    histories = [
        sequence
        for history in document.getElementsByTagNameNS(_MM, "History")
        for sequence in history.getElementsByTagNameNS(_RDF, "Seq")
    ]
    if histories:
        histories[0].appendChild(step)
    else:
        history = document.createElementNS(_MM, "xmpMM:History")
        sequence = document.createElementNS(_RDF, f"{prefix}:Seq")
        sequence.appendChild(step)
        history.appendChild(sequence)
        note.appendChild(history)
    rdf.appendChild(note)


def _about(rdf: minidom.Element) -> str:
    """What the packet's descriptions are about: the same in all of them."""
    for description in _descriptions(rdf):
        return str(description.getAttributeNS(_RDF, "about"))
    return ""
