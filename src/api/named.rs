//! Closed sets of words: enums that are spelled the same in Rust, in the API and in the documentation.

/// Declares a closed set with the API's spelling of each member.
///
/// The type's own documentation stays out of the schema: there it would take the place of the field's.
macro_rules! named_set {
    ($(#[$attribute:meta])* $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[schemars(description = "")]
        pub enum $name {
            $(
                $(#[$variant_attribute])*
                #[serde(rename = $text)]
                $variant,
            )+
        }

        impl $name {
            /// All members, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The spelling in the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(super) use named_set;
