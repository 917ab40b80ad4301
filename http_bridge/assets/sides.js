// What the two pictures are called: on a narrow screen one lies above the other, as style sheets have it.

const narrow = matchMedia("(max-width: 40rem)");

export const sides = () => (narrow.matches ? ["upper", "lower"] : ["left", "right"]);
export const besideInWords = () => (narrow.matches ? "one above the other" : "side by side");
export const onTurn = (act) => narrow.addEventListener("change", act);
