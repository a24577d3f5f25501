import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  { ignores: ['dist/', 'build/', 'src/**/build/', 'node_modules/'] },
  {
    files: ['**/*.{ts,js,cjs}'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreVoidReturningFunctions: true }],
      '@typescript-eslint/no-invalid-void-type': ['error', { allowAsThisParameter: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    },
  },
  {
    // The daemon's own rooms.
    files: [
      'xdr/**',
      'src/{state,posix,proc,libvirt,log,store,rpc,lockspace,lockd,admin,inquire,daemon,restart}/**/*.ts',
      'src/programs/virtlockd/**/*.ts',
    ],
    rules: {
      'no-restricted-syntax': [
        'error',
        ...['ImportDefaultSpecifier', 'ImportNamespaceSpecifier'].map((kind) => ({
          selector: `ImportDeclaration[importKind!="type"][source.value=/^node:/] > ${kind}`,
          message:
            'Import by name: for a default or namespace import the bundle copies the whole module at each start.',
        })),
      ],
    },
  },
  {
    files: ['**/*.cjs'],
    rules: { '@typescript-eslint/no-require-imports': 'off' },
  },
);
