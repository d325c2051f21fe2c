// Which part of the image is shown: a zoom (1: all of it fits) and the point of the image in the middle of the canvas.

const MOST = 40; // screen pixels of an image pixel

export function makeView() {
  let [image, canvas] = [[1, 1], [1, 1]];
  let [zoom, middle] = [1, [0.5, 0.5]];

  const fitScale = () => Math.min(canvas[0] / image[0], canvas[1] / image[1]);
  const scale = () => fitScale() * zoom;

  function settle() {
    zoom = Math.min(Math.max(zoom, 1), Math.max(MOST / fitScale(), 1));
    middle = middle.map((at, axis) => {
      const half = canvas[axis] / scale() / 2;
      return half * 2 >= image[axis] ? image[axis] / 2 : Math.min(Math.max(at, half), image[axis] - half);
    });
  }

  const toScreen = ([x, y]) => [
    (x - middle[0]) * scale() + canvas[0] / 2,
    (y - middle[1]) * scale() + canvas[1] / 2,
  ];
  const toImage = ([x, y]) => [
    (x - canvas[0] / 2) / scale() + middle[0],
    (y - canvas[1] / 2) / scale() + middle[1],
  ];

  return {
    toScreen,
    toImage,
    scale,
    zoom: () => zoom,
    center: () => middle,
    setImage(width, height) {
      image = [width, height];
      [zoom, middle] = [1, [width / 2, height / 2]];
      settle();
    },
    setCanvas(width, height) {
      canvas = [width, height];
      settle();
    },
    fit() {
      zoom = 1;
      settle();
    },
    // Zooms so that what is at a place of the canvas stays there.
    zoomAt(factor, place = [canvas[0] / 2, canvas[1] / 2]) {
      const point = toImage(place);
      zoom *= factor;
      settle();
      const [x, y] = toScreen(point);
      middle = [middle[0] + (x - place[0]) / scale(), middle[1] + (y - place[1]) / scale()];
      settle();
    },
    pan(dx, dy) {
      middle = [middle[0] - dx / scale(), middle[1] - dy / scale()];
      settle();
    },
  };
}
