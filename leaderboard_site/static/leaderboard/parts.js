/** The elements that a module's template promises: each is looked for by its selector and comes with its type. */

/**
 * The first element below `root` that `selector` finds. Throws an error that names the selector where there is none, or
 * one of another kind: template and module do not belong together then.
 *
 * @template {Element} Kind
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => Kind} kind such as `HTMLInputElement`
 * @returns {Kind}
 */
export function part(root, selector, kind) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`There is no ${kind.name} at "${selector}"`);
  return found;
}
