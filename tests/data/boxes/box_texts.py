"""COCO's JSON and VOC's XML, made for a test."""

import json


def write_json(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def image(number, name):
    return {"id": number, "file_name": name, "width": 64, "height": 48}


def annotation(number, of, bbox=(1, 2, 3, 4), **fields):
    return {"id": number, "image_id": of, "bbox": list(bbox), "category_id": 1, "iscrowd": 0, **fields}


def detection(of, bbox=(1, 2, 3, 4), score=0.5, **fields):
    return {"image_id": of, "category_id": 1, "bbox": list(bbox), "score": score, **fields}


def one_line(caught):
    return "\n" not in str(caught.value)


def voc(*objects, head="", root="annotation"):
    body = "".join(f"<object><name>x</name>{inner}</object>" for inner in objects)
    return f"{head}<{root}><filename>%s</filename><size><width>9</width></size>{body}</{root}>"


def bndbox(x0="1", y0="1", x1="5", y1="6"):
    return f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
