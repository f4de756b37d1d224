"""The choices behind the numbers, in words: what ``metrics.json`` says of how it was measured."""

from __future__ import annotations

from typing import Any

from jaxcolor.evaluation.controls import COVERS
from jaxcolor.evaluation.diversity import COVERAGE_DISTANCE
from jaxcolor.evaluation.metrics.colors import COLORLESS_CHROMA
from jaxcolor.evaluation.metrics.psnr import PSNR_CAP
from jaxcolor.evaluation.predictors import HINT_SEED, SAMPLE_SEED, SYSTEMS, VIVID
from jaxcolor.evaluation.scorer import Choice, Scorer
from jaxcolor.evaluation.statistics import RESAMPLES
from jaxcolor.inference.sampling import GRID


def describe(
    scorer: Scorer,
    systems: tuple[str, ...],
    controls: tuple[str, ...],
    temperature: float,
    canvases: tuple[int, ...] = (),
) -> dict[str, Any]:
    """The choices behind the numbers, for ``metrics.json``."""
    choice: Choice = scorer.choice
    missing = [s for s in SYSTEMS[1:] if s not in systems] if any(s in SYSTEMS for s in systems) else []
    at = (
        f"each photo at its own size, longer sides reduced to {choice.side} pixels, aspect kept; predicted ab resized "
        "to it bilinearly, without antialiasing"
        if scorer.native
        else f"photos resized to {choice.side}x{choice.side}, aspect not kept (Pillow bilinear, antialiased)"
    )
    return {
        "systems": ["gray", *systems],
        "systems_left_out": f"{', '.join(missing)}: the weights hold no fusion tree" if missing else None,
        "canvas": choice.object_side,
        "size": "native" if scorer.native else "canvas",
        "compared_at": at,
        "metrics": list(choice.metrics),
        "metrics_left_out": f"{', '.join(choice.left_out)}: the pictures are too small" if choice.left_out else None,
        "color_conversion": "sRGB (IEC 61966-2-1), CIE Lab with D65, 2 degrees, as scikit-image",
        "pictures": "truth: 8-bit sRGB; prediction: its own L* with the predicted ab, clipped to sRGB channel by "
        "channel, rounded to 8 bit",
        "remainder": "the last batch is filled up with places that do not count; every photo counts exactly once",
        "crops": f"each box cut from the original photo and resized to {choice.object_side}x{choice.object_side}",
        "psnr": "dB, 10 log10(255^2 / MSE) per photo over RGB together, then the mean over photos",
        "psnr_cap_db": PSNR_CAP,
        "psnr_cap": "in means a photo counts this much at most (an identical picture is infinite); psnr_capped counts",
        "ssim": "Gaussian 11x11, sigma 1.5, K1 0.01, K2 0.03, range 255, mean of R, G, B, whole windows only",
        "colorless": f"photos with a mean chroma in CIE Lab below {COLORLESS_CHROMA:g}, at the size of the comparison; "
        "they count in all means but those of without_colorless, which leave out their objects too",
        "objects": "pixels in the union of the boxes in the batch; windows of SSIM by their center; photos without "
        "such pixels are left out",
        "background": "pixels outside all boxes; of a photo without boxes, all",
        "per_object": f"each object's box cut out of both pictures, resized to {choice.object_side}x"
        f"{choice.object_side} (bilinear, no antialiasing) and rounded; mean over objects, interval over photos"
        if scorer.per_object
        else None,
        "per_object_by_size": "geometric mean of the sides of the object's box on the model's canvas, pixels"
        if scorer.per_object
        else None,
        "instance": "per_object alone: the instance network's ab pasted where its crop was cut, the full-image "
        f"network's around it; the crop whose box has the highest IoU, at least {COVERS:g}; objects without one miss; "
        "objects_with_crop has all systems over the others alone"
        if scorer.per_object and controls
        else None,
        "fused": "the fusion tree where a photo has boxes, the full tree elsewhere",
        "vivid": "full_vivid and fused_vivid: the saturation curve of the weights at full strength; where they have "
        f"none, the annealed mean of the class head's distribution at temperature {temperature:g}, resized bilinearly"
        if any(system in VIVID for system in systems)
        else None,
        "canvases": "full_canvases and fused_canvases: the mean of full or fused and of the full-image network's ab on "
        f"canvases of {', '.join(map(str, canvases))}, resized bilinearly, without antialiasing"
        if canvases
        else None,
        "controls": {
            "no_boxes": "the fusion tree without any crop",
            "other_crops": "each crop's pixels from another photo of the same batch, boxes kept; photos of a batch in "
            "which no other photo has crops are left out",
        }
        if controls
        else None,
        "controls_elsewhere": "photos without boxes get the full tree's output, as in fused" if controls else None,
        "fid": "InceptionV3 of pytorch-fid, 2048 features, 299x299 bilinear without antialiasing, covariance over N - 1"
        if scorer.has_fid
        else None,
        "interval_95": f"percentile bootstrap over photos, {RESAMPLES} resamples, fixed seed",
        "precision": "products in full float32 (matmul precision highest)",
    }


def describe_choice(hint_points: tuple[int, ...], samples: int) -> dict[str, Any]:
    """What ``metrics.json`` says of how hints and samples were measured, of those that were."""
    hints = {
        "hint_points": list(hint_points),
        "hints": "each point shows the mean true ab of 6x6 pixels of the canvas, drawn around its middle (Zhang et al. "
        "2017) and cut out for the crops; a photo's points depend on the seed and its number alone, those for a "
        f"smaller count are the first of those for a larger one; seed {HINT_SEED}",
    }
    drawn = {
        "samples": samples,
        "sampling": "one color of its palette for each box and for the background, shown as hints at up to "
        f"{GRID * GRID} points of each, then regressed; combinations without replacement in proportion to their "
        "probability, the most probable first, which is repeated where a photo has no more; best_of k: the best of "
        f"the first k; seed {SAMPLE_SEED}",
        "palettes": "of each box that the model was given, from the class head without its rebalancing; truth: the "
        f"highest mode of the box's true ab; covered: a color within {COVERAGE_DISTANCE:g} of it (a*b* units); "
        "calibration: a color happens if it is the palette's nearest to the truth",
    }
    return {**(hints if hint_points else {}), **(drawn if samples else {})}
