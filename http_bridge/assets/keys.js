// Keys that do something wherever the focus is, except where somebody types.

const TYPING = "input:not([type=checkbox]), select, textarea, [contenteditable]";
const PRESSING = "button, a, summary, input";

// keys: what each does, by its name in capitals; `on` is the checkbox that allows them.
export function onKeys(on, keys) {
  addEventListener("keydown", (event) => {
    if (!on.checked || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest?.(TYPING) || (event.key === " " && event.target.closest?.(PRESSING))) return;
    const run = keys[event.key.toUpperCase()];
    if (!run) return;
    event.preventDefault();
    run();
  });
}
