"""The embedded set: faces drawn from a seed, with and without masks, in the shape of a photo folder with truth.

It runs the whole pipeline anywhere, offline, and since every masked picture has its unmasked twin and the region of its
mask, it measures what real unpaired photos cannot tell.

folder.py writes the set, picture.py draws one photograph; the rest is what they are made of: traits.py (what is
sampled), canvas.py (paint and pose), relief.py (light), head.py, features.py, hair.py, masks.py and scene.py.
"""

from bmask.synthetic.folder import draw_set
from bmask.synthetic.masks import KINDS
from bmask.synthetic.picture import CASES, Face, draw_face

__all__ = ["CASES", "KINDS", "Face", "draw_face", "draw_set"]
