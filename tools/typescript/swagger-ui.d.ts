// The global that swagger-ui-bundle.js leaves behind, as far as docs.js uses it.

declare const SwaggerUIBundle: {
  (options: {
    url: string;
    domNode: Element;
    presets: unknown[];
    layout: "BaseLayout";
    deepLinking: boolean;
    validatorUrl: string | null;
  }): unknown;
  presets: { apis: unknown };
};
