/** Finds the elements that a module expects in its template, by selector and with their type. */

/**
 * Returns the first element below `root` that matches `selector`. Throws an error that names the selector if there is
 * none, or one of another kind: then the template does not fit the module.
 *
 * @template {Element} Kind
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => Kind} kind such as `HTMLInputElement`
 * @returns {Kind}
 */
export function part(root, selector, kind) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`There is no ${kind.name} that matches "${selector}"`);
  return found;
}
