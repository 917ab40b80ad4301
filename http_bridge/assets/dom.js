// Builds elements from plain values. Text becomes a text node, never markup, whatever a server or a file name contains.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function html(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

// The URL of the picture of a path below the folder of images.
export function pictureOf(path, side) {
  return `/v1/pictures/${path.split("/").map(encodeURIComponent).join("/")}?side=${side}`;
}
