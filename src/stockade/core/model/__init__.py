"""The words: frozen values, no behaviour beyond them. ``docs/glossary.md`` says what each means."""
