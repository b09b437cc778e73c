"""The embedded set: faces drawn from a seed, with and without masks, written as a photo folder with truth.

The pipeline runs on it offline. Every masked picture has its unmasked twin and the region of its mask, which allows
measurements that are impossible on real unpaired photos.

folder.py writes the set and picture.py draws one photograph. They use traits.py (random properties), canvas.py (paint
and pose), relief.py (light), head.py, features.py, hair.py, masks.py and scene.py.
"""

from bmask.synthetic.folder import draw_set
from bmask.synthetic.masks import KINDS
from bmask.synthetic.picture import CASES, Face, draw_face

__all__ = ["CASES", "KINDS", "Face", "draw_face", "draw_set"]
