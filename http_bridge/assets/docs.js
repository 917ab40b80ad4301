// Shows the OpenAPI document as a page.

import { html } from "./dom.js";

function sample(schema, components, depth = 0) {
  if (schema.$ref) {
    const inner = components[schema.$ref.split("/").pop()];
    return depth > 3 ? {} : sample(inner, components, depth + 1);
  }
  if (schema.anyOf) return sample(schema.anyOf.find((one) => one.type !== "null"), components, depth);
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  switch (schema.type) {
    case "object":
      return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, one]) => [name, sample(one, components, depth + 1)]));
    case "array":
      return [sample(schema.items ?? {}, components, depth + 1)];
    default:
      return { integer: 0, number: 0.5, boolean: true, string: "…" }[schema.type] ?? null;
  }
}

function content(title, contents, components) {
  return Object.entries(contents ?? {}).flatMap(([kind, { schema, example }]) => {
    const heading = html("p", { class: "soft" }, `${title}: `, html("code", {}, kind));
    if (kind !== "application/json") return [heading];
    return [heading, html("pre", { tabindex: 0 }, JSON.stringify(example ?? sample(schema, components), null, 1))];
  });
}

function operation(path, method, found, parameters, components) {
  const good = Object.entries(found.responses).find(([status]) => status < 300);
  const rows = Object.entries(found.responses).map(([status, one]) => html("tr", {}, html("th", {}, status), html("td", {}, one.description)));
  const asked = [...parameters, ...(found.parameters ?? [])].map((one) =>
    html("p", {}, html("code", {}, one.name), ` in the ${one.in}. ${one.description ?? ""}`));
  return html("details", { class: "operation" },
    html("summary", {}, html("span", { class: "method" }, method.toUpperCase()), html("code", {}, path), ` ${found.summary}`),
    found.description ? html("p", {}, found.description) : null, ...asked,
    ...content("Body", found.requestBody?.content, components), ...content("Answer", good?.[1].content, components),
    html("table", {}, html("tbody", {}, ...rows)));
}

const place = document.getElementById("operations");
try {
  const found = await (await fetch("/openapi.json")).json();
  const operations = Object.entries(found.paths).flatMap(([path, item]) =>
    ["get", "post", "delete"].filter((method) => item[method]).map((method) =>
      operation(path, method, item[method], item.parameters ?? [], found.components.schemas)));
  place.replaceChildren(html("p", {}, found.info.description), ...operations);
} catch (error) {
  place.replaceChildren(html("p", { class: "trouble", role: "alert" }, "The bridge does not answer, so its interface cannot be shown."));
}
