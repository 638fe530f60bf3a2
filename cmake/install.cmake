# The library as others use it: libakin.so with nothing visible but AKIN_API, libakin.a, headers, and
# what pkg-config and CMake need to find them. Included once all modules are known.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Everything below the applications goes into one library; the objects are compiled once.
get_property(modules GLOBAL PROPERTY AKIN_MODULES)
list(REMOVE_ITEM modules akin_cli)
set(objects "")
set(libraries "")
foreach(module ${modules})
  list(APPEND objects $<TARGET_OBJECTS:${module}>)
  get_target_property(used ${module} LINK_LIBRARIES)
  list(APPEND libraries ${used})
endforeach()
list(FILTER libraries EXCLUDE REGEX "^akin_")
list(REMOVE_DUPLICATES libraries)

if(TARGET akin_engine)
  add_library(akin_shared SHARED ${objects})
  add_library(akin_static STATIC ${objects})
  set_target_properties(akin_shared PROPERTIES OUTPUT_NAME akin EXPORT_NAME akin
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C)
  set_target_properties(akin_static PROPERTIES OUTPUT_NAME akin EXPORT_NAME static LINKER_LANGUAGE C)
  foreach(library akin_shared akin_static)
    target_link_libraries(${library} PRIVATE ${libraries})
    target_include_directories(${library} INTERFACE
      $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  endforeach()
  if(NOT AKIN_SANITIZE)     # a sanitizer's own symbols come with the program
    target_link_options(akin_shared PRIVATE -Wl,-z,defs)
  endif()

  install(TARGETS akin_shared EXPORT akin)
  install(TARGETS akin_static EXPORT akin-static)
  install(EXPORT akin NAMESPACE akin:: FILE akinTargets.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/akin)
  install(EXPORT akin-static NAMESPACE akin:: FILE akinStaticTargets.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/akin)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/akin DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# A static link names our libraries but not theirs, which come with them as shared ones.
set(AKIN_LIBS_PRIVATE "")
foreach(library ${libraries})
  if(library MATCHES "^PkgConfig::(.*)")
    list(TRANSFORM ${CMAKE_MATCH_1}_LIBRARIES PREPEND -l OUTPUT_VARIABLE flags)
    list(APPEND AKIN_LIBS_PRIVATE ${flags})
  endif()
endforeach()
file(RELATIVE_PATH AKIN_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REPLACE ";" " " AKIN_LIBS_PRIVATE "${AKIN_LIBS_PRIVATE}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/akin.pc.in ${PROJECT_BINARY_DIR}/akin.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/akin.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The static target names PkgConfig:: libraries, so its config file looks them up again.
set(AKIN_STATIC_LOOKUP "")
foreach(library ${libraries})
  if(library MATCHES "^PkgConfig::(.*)")
    set(prefix ${CMAKE_MATCH_1})
    string(APPEND AKIN_STATIC_LOOKUP
      "  pkg_check_modules(${prefix} REQUIRED IMPORTED_TARGET ${${prefix}_MODULE_NAME})\n")
  endif()
endforeach()
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/akinConfig.cmake.in
  ${PROJECT_BINARY_DIR}/akinConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/akin)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/akinConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/akinConfig.cmake ${PROJECT_BINARY_DIR}/akinConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/akin)
