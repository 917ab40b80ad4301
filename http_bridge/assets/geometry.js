// Computes where one picture lies in the other, from the pairs of matching points alone.

// The least-squares affine map of the points of `from` to those of `to`; null if they do not determine one.
// A map [a, b, c, d, e, f] takes (x, y) to (a x + b y + c, d x + e y + f).
export function fit(from, to) {
  if (from.length < 3) return null;
  const mean = (points, axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
  const [mx, my, tx, ty] = [mean(from, 0), mean(from, 1), mean(to, 0), mean(to, 1)];
  let [xx, xy, yy, xu, yu, xv, yv] = [0, 0, 0, 0, 0, 0, 0];
  from.forEach(([px, py], n) => {
    const [x, y, u, v] = [px - mx, py - my, to[n][0] - tx, to[n][1] - ty];
    xx += x * x; xy += x * y; yy += y * y;
    xu += x * u; yu += y * u; xv += x * v; yv += y * v;
  });
  const determinant = xx * yy - xy * xy;
  // points on one line determine no map
  if (determinant < 1e-3 * (xx + yy) ** 2 / 4) return null;
  const [a, b] = [(xu * yy - yu * xy) / determinant, (yu * xx - xu * xy) / determinant];
  const [d, e] = [(xv * yy - yv * xy) / determinant, (yv * xx - xv * xy) / determinant];
  return [a, b, tx - a * mx - b * my, d, e, ty - d * mx - e * my];
}

export function apply([a, b, c, d, e, f], [x, y]) {
  return [a * x + b * y + c, d * x + e * y + f];
}

// Clips a convex polygon to the unit square (Sutherland and Hodgman 1974).
export function clip(polygon) {
  const edges = [[0, 1, 0], [0, -1, 1], [1, 1, 0], [1, -1, 1]];
  return edges.reduce((points, [axis, sign, bound]) => {
    const inside = (point) => sign * (point[axis] - bound) >= 0;
    return points.flatMap((point, n) => {
      const before = points[(n + points.length - 1) % points.length];
      const cut = [];
      if (inside(point) !== inside(before)) {
        const share = (bound - before[axis]) / (point[axis] - before[axis]);
        cut.push([before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])]);
      }
      return inside(point) ? [...cut, point] : cut;
    });
  }, polygon);
}

const FRAME = [[0, 0], [1, 0], [1, 1], [0, 1]];

// The regions of both pictures that the other one shows, as polygons in the unit square. Each point is x, y here, x, y there.
export function regions(points) {
  const here = points.map((point) => point.slice(0, 2));
  const there = points.map((point) => point.slice(2, 4));
  const [inward, outward] = [fit(there, here), fit(here, there)];
  if (inward === null || outward === null) return [FRAME, FRAME];
  return [inward, outward].map((map) => clip(FRAME.map((corner) => apply(map, corner))));
}
