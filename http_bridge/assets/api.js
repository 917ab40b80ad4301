// Asks the bridge; the caller shows what went wrong.

export async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

// The response of a request that must be served; an Error with the bridge's words where it is not.
export async function need(method, path, body) {
  const answer = await ask(method, path, body);
  if (answer.status !== 200) throw new Error(answer.body.error_message);
  return answer.body.response;
}

export const inUrl = (path) => path.split("/").map(encodeURIComponent).join("/");

// A date and time as people write it.
export function when(time) {
  return time ? new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
}
