"""Where a face lies in a generator's picture, and that picture in a stored square."""

from __future__ import annotations

import numpy as np

# Left eye, right eye (of the picture, not of the person), nose, left and right corner of the mouth, in the unit square
# of the picture that a generator takes. Below the mouth there is more room than between eyes and mouth: a mask reaches
# under the chin, and what lies beyond the square stays on the photo.
TEMPLATE = np.array([(0.34, 0.32), (0.66, 0.32), (0.50, 0.488), (0.38, 0.64), (0.62, 0.64)])
CENTRE = 8 / 9  # of the stored square's side is the generator's picture; the rest is a margin for random crops
