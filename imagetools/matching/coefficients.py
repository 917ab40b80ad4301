"""The weights of `calibration`, in the order of its terms.

Fitted by `python -m bench.calibrate --count 300 --seed 1`
at 160 × 160, on 38,816 pairs, of which 6,900 are copies.
"""

KEYPOINTS = (-16.9475, 3.4186, 11.1577, 4.5164, 3.9039, 11.4443, 3.9827, 0.0)
WHOLE = (2.0954, 1.5418, 0.0, 1.3623, 0.8199, 2.1474, 1.9128, 7.2101, 2.8748, 0.0, 1.0917)
CLOSER = (-5.0679, 0.0762, 3.0821, 9.5685, 1.9611, 25.7932, 3.0153, 0.0)
