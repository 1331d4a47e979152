// What `cargo xtask browser` passes on.

function variable(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run cargo xtask browser`);
  return value;
}

// The browser, kubectl and kubectl-operon.
export const chromium = () => variable('OPERON_CHROMIUM');
export const kubectl = () => variable('OPERON_KUBECTL');
export const plugin = () => variable('OPERON_KUBECTL_PLUGIN');

// The folder with the certificates of the cluster.
export const certificates = () => variable('OPERON_CERTIFICATES');

// Where screenshots and figures go.
export const artifacts = () => variable('OPERON_BROWSER_DIR');

// Whether measurements are short.
export const isQuick = () => process.env.OPERON_BROWSER_QUICK === '1';
